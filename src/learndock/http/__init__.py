"""The dock under an address: thin routes over ``service``, one verb one function (extra ``server``)."""
