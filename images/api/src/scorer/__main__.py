"""`python -m scorer` runs the service, `python -m scorer check FOLDER` says whether it could serve a version."""

import sys

if __name__ == "__main__":
    # Not at the top: the sandbox process imports this module too, and needs nothing of the service. The check runs in
    # the training image, which has no web server.
    if sys.argv[1:2] == ["check"]:
        from scorer.check import main as check

        sys.exit(check(sys.argv[2:]))
    from scorer.process import main

    main()
