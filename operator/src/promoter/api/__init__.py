"""The API: the ModelPromotion (spec, rules, status, CRD) and the route document. Imports no other folder."""
