//! Networks: namespaces, endpoints, addresses of containers.
