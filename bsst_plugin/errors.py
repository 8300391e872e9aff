"""The error for mistakes that the user can mend."""


class UserError(Exception):
    """Something the user can put right: bad path, bad file, bad setting.

    The message is one line that names the file or setting and the way out. Commands print it
    without a traceback and exit with code 1.
    """
