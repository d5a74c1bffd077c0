//! Hosts in network namespaces, a real control plane, the demo and the benchmarks.
