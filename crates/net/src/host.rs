//! Host settings that make a pool unreachable or answered for by the kernel.
