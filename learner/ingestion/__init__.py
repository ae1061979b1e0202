"""Receiving episodes: the gateway, who may speak to it, and the thread that stores and acks."""
