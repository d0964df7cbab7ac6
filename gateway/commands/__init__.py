"""Commands that can wait: direct and stored ones, by CoAP, MQTT and HTTP, with a life that can be followed.

`records` values · `lifecycle` the table · `queue` who is next (pure) · `verdict` what an answer means (pure) · `store`
on disk · `desk` intake and audit · `delivery` towards devices · `coap_intake`, `mqtt_channel`, `api` the ways in.
"""
