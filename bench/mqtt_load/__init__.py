"""The load client of `meshwire bench broker`: one process, sockets and epoll, no MQTT library in the hot path.

All PUBLISH packets of a job have one length, so a segment is counted, checked for order and acknowledged by slicing and
not packet by packet: the client must not be what is measured. The loop is closed: no publisher has more than `window`
messages on the way that are not both acknowledged and delivered, so shedding messages does not flatter a broker.

`python -m bench.mqtt_load JOB` takes a Job as JSON and prints an Outcome as JSON.
"""
