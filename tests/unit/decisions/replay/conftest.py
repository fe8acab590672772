from unit.decisions.replay.fixtures import chain, empty_now, registry, store, version, version_folder

__all__ = ["chain", "empty_now", "registry", "store", "version", "version_folder"]
