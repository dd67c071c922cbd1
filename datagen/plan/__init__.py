"""`datastill plan`: what a pipeline would ask, hold, take and cost, before it runs; and what a server gives."""
