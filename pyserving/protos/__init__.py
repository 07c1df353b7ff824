"""The protocol messages of the interface, under the names that they have on the wire."""
