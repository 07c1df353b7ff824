"""The life of servables: who is loaded, who serves, who goes. Knows no format and no wire."""
