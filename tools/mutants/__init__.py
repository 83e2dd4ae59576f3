"""
`make mutants`: changes the rules of the folds in a copy, one small change at a time, and lists the changes that no unit test notices.

    mutations.py   the source of a module -> its mutants
    runner.py      a mutant -> whether the tests fail, in a forked process and a copy of the project
    __main__.py    chooses, runs, prints
"""
