include $(sort $(wildcard $(BR2_EXTERNAL_FTPSD_PATH)/package/*/*.mk))
