"""Puts a SavedModel where the server looks, as the next version:  python deploy.py FOLDER MODELS [ADDRESS]

`pyserving export` loads and asks it in a process of its own first, and it appears by one rename. With the address of a
server, waits until the version serves.
"""

import json
import subprocess
import sys
import time

from pyserving import Client

MODEL = "shapes"

folder, models, *address = sys.argv[1:]
command = ["pyserving", "export", folder, f"{models}/{MODEL}", "--warmup", "warmup.jsonl", "--json"]
done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
if done.returncode:
    sys.exit("not deployed")
version = json.loads(done.stdout)["version"]
print(f"wrote version {version}")
if address:
    with Client(*address) as client:
        while not any(one.version == version and one.state == "AVAILABLE" for one in client.status(MODEL)):
            time.sleep(0.1)
    print(f"version {version} serves")
