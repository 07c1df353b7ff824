"""Asks half_plus_two:  python client.py ADDRESS"""

import sys

from pyserving import Client

with Client(sys.argv[1]) as client:
    print(client.predict("half_plus_two", [1.0, 2.0, 5.0])["y"])
