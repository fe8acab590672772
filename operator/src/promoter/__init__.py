"""ModelPromotion: rolls new model versions out as canaries, and takes bad ones back."""
