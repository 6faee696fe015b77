"""Queues: `local` holds references to objects, for the threads and event loops of one process."""
