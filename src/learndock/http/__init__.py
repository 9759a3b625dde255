"""The dock over HTTP: thin routes over ``service``, one function per verb (extra ``server``)."""
