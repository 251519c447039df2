//! Seccomp policies and their compilation.
