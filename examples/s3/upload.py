"""Copies a version folder into a bucket:  python upload.py MODELS/NAME/1 s3://BUCKET/NAME/1

An empty object _SUCCESS comes last: with it, a server need not wait whether more is to come.
"""

import sys

import fsspec

folder, target = sys.argv[1:]
store, path = fsspec.core.url_to_fs(target)
store.makedirs(path.partition("/")[0], exist_ok=True)
store.put(folder, path, recursive=True)
store.pipe_file(f"{path}/_SUCCESS", b"")
print(f"wrote {target}")
