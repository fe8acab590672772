"""`python -m scorer` runs the service."""

if __name__ == "__main__":
    # Not at the top: the sandbox process imports this module too, and needs nothing of the service.
    from scorer.process import main

    main()
