//! Images: resolve, pull, list, inspect, tag, remove.
