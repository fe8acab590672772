"""Backup and restore of MLflow's data: the database's dumps and the artifact bucket."""
