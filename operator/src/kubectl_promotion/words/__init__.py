"""What the plugin concludes from a ModelPromotion: pure functions, documents in, words out."""
