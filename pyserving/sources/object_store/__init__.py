"""Base paths in object stores (S3, Google Cloud Storage, Azure) and on web servers: listed, fetched into a cache."""
