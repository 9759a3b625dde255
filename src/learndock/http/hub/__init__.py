"""The hub's protocol: what `hf`, `huggingface_hub`, transformers and PEFT ask for with HF_ENDPOINT set to this dock.

    download  model and tree as JSON, then HEAD and GET of each file, in ranges
    upload    create, preupload (small: in the commit; large: as LFS objects), LFS batch and PUTs, commit

Every route calls the same functions of ``service/`` as those of ``/api/v1``: there is no second access check.
"""
