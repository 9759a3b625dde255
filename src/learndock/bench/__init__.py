"""The evidence: tasks, graded learnwares, methods that choose among them, and tables of how well they chose.

    tasks      a folder of tasks -> what is the user's, the owner's, and for testing
    responses  the helper's answer to every example and label, once: any spec is then a weighted sum
    learners   models of several kinds and of graded quality
    pool       learnwares: a model, what it answers, its spec
    scores     what each learnware is worth on each task
    methods    who chooses, and what it sees
    experiments, report

Nothing here is needed to use a dock; it comes with the extra ``learndock[bench]``.
"""
