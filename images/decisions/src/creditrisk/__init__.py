"""The command line `creditrisk`: decisions, outcomes and the timeline of models, over HTTP."""
