"""Exchanges to events to tables: adapters, connections, sessions, replay and the simulator."""
