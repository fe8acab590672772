"""What people read of a ModelPromotion, as pure functions: for the operator's page, and for kubectl promotion."""
