"""`python -m scorer` runs the service."""

if __name__ == "__main__":
    # Not above: a process that this one starts imports this module too, and needs nothing of the service.
    from scorer.process import main

    main()
