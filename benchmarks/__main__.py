"""`make bench`: the end-to-end comparison."""

from benchmarks.end_to_end import main

if __name__ == "__main__":
    main()
