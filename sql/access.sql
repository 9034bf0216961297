-- Access: who may do what. C functions ask src/access.c; the functions of
-- administration are not for PUBLIC, see each module's REVOKE.
REVOKE EXECUTE ON FUNCTION iotmq.messages_of_device FROM PUBLIC;
