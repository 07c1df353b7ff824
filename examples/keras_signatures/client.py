"""Asks both models for three flowers:  python client.py ADDRESS"""

import sys

from pyserving import Client

FLOWERS = [[5.0, 3.4, 1.5, 0.2], [5.9, 2.8, 4.3, 1.3], [6.6, 3.0, 5.6, 2.0]]

with Client(sys.argv[1]) as client:
    print("flowers     ", client.predict("flowers", FLOWERS)["output_0"].argmax(axis=1))
    print("flowers_call", client.predict("flowers_call", FLOWERS, signature="call")["species"])
