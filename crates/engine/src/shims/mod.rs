//! Shims as the daemon sees them: launch, adopt, speak.
