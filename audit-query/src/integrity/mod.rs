//! Integrity over time: checkpoints of whole tenants, and the job that keeps watch over the stores.
