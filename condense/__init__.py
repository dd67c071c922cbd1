"""Large datasets in, small ones out: condensed sets, and the coresets that they must beat."""
