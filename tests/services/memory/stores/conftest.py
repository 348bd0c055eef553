"""MongoDB's fixtures for the tests of its store."""

from tests.mongo_peer.fixtures import mongo_client, mongo_database, mongo_peer, mongo_store, mongo_uri

__all__ = ["mongo_client", "mongo_database", "mongo_peer", "mongo_store", "mongo_uri"]
