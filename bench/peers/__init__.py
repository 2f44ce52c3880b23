"""Other packages' own functions on the same inputs. Each module skips its providers if the package is not installed."""
