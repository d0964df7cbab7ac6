"""The site's MQTT topics as an AsyncAPI 3 document, made from the builders and models of the code."""

from gateway.asyncapi.document import BrokerAddress, asyncapi_document

__all__ = ["BrokerAddress", "asyncapi_document"]
