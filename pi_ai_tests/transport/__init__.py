"""HTTP, by concept: clocks, sending again, bodies, the pool, proxies, TLS, clients of the caller's, closing."""
