"""Says which versions there should be: model config files, base paths, version policies."""
