//! Uploads WAL objects, at most K in flight, acknowledged in slot order.
