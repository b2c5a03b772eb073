"""What there is in some accounts, for whoever may read all of them: facts without secrets, and what is wrong.

Every query is limited to the accounts that it is given.
"""
