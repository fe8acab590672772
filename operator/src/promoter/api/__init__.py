"""What users write and pods read: the ModelPromotion's spec, the CRD and the route."""
