"""Users, roles and addresses of a site: one set of requests, done by the broker that runs, else on its files."""
