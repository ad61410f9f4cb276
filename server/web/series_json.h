#ifndef LOCKSTEP_SERVER_WEB_SERIES_JSON_H_
#define LOCKSTEP_SERVER_WEB_SERIES_JSON_H_

#include <string>

#include "server/jobs/job_curves.h"

namespace lockstep {

// {"curves": {NAME: {"step": [...], "time": [...], "value": [...]}}, "last_sequence": N}. Numbers
// come back as the same doubles; what JSON has no number for is "NaN", "Infinity" or "-Infinity".
std::string SeriesJson(const JobCurves::Answer& curves);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_WEB_SERIES_JSON_H_
