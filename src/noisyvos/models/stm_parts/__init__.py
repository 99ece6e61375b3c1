"""What STM (Oh et al., ICCV 2019) and AFB-URR, which builds on it, share.

`encoders`: section 3.1, key and value embedding, and the trunks they stand on. `matching`: section
3.2, the space-time memory read. `decoder`: section 3.3. `fast`: the decoder's block for inference.
"""
