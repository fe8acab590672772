"""One model version: how it is loaded, and how it scores and explains rows."""
