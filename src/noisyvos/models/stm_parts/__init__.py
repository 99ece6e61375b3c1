"""What STM (Oh et al., ICCV 2019) and the networks that grew out of it share: encoders, the read from memory, the coarse decoder."""
