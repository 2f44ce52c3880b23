"""``python -m bench.training``."""

from bench.training.command import main

if __name__ == "__main__":
    raise SystemExit(main())
