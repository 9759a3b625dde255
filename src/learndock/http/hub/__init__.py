"""The hub's protocol: what `hf`, `huggingface_hub`, transformers and PEFT ask for with HF_ENDPOINT set to this dock.

    download  model and tree as JSON, then HEAD and GET of each file, in ranges
    upload    create, preupload (small: in the commit; large: as LFS objects), LFS batch and PUTs, commit

Every answer is made of the same questions to ``service/`` as those of ``/api/v1``: there is no second way in.
"""

from fastapi import APIRouter

from learndock.http.hub import download, lfs, upload

router = APIRouter(include_in_schema=False)
# Their order matters where paths could be read in two ways: routes under /api stand before those of files.
for part in (upload, lfs, download):
    router.include_router(part.router)

__all__ = ["router"]
