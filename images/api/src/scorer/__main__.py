"""`python -m scorer` runs the service, `check FOLDER` says whether it could serve a version, `replay` scores again."""

import sys

if __name__ == "__main__":
    # Not at the top: the sandbox process imports this module too, and needs nothing of the service. The check runs in
    # the training image, and the replay in that of the decision log, which have less than the service needs.
    if sys.argv[1:2] == ["check"]:
        from scorer.check import main as check

        sys.exit(check(sys.argv[2:]))
    if sys.argv[1:2] == ["replay"]:
        from scorer.replay import main as replay

        sys.exit(replay(sys.argv[2:]))
    from scorer.process import main

    main()
