"""Examples of the API's documentation, word for word."""
# ruff: noqa: W293

PYTHON_CLIENT = """
import requests

# Load metadata
response = requests.post(
    "http://localhost:8000/api/v1/processing/load-metadata",
    json={"file_path": "/data/experiment.nd2"}
)
metadata = response.json()

# Start workflow
response = requests.post(
    "http://localhost:8000/api/v1/processing/workflow/start",
    json={
        "microscopy_path": "/data/experiment.nd2",
        "output_dir": "/data/output",
        "channels": metadata["suggested_channels"],
        "parameters": {"fov_start": 0, "fov_end": 9}
    }
)
job_id = response.json()["job_id"]

# Monitor progress
while True:
    response = requests.get(
        f"http://localhost:8000/api/v1/processing/workflow/status/{job_id}"
    )
    status = response.json()
    print(f"Progress: {status['progress']['percentage']}%")
    
    if status["status"] in ["completed", "failed"]:
        break
    
    time.sleep(5)

# Get results
response = requests.get(
    f"http://localhost:8000/api/v1/processing/workflow/results/{job_id}"
)
results = response.json()
"""

JAVASCRIPT_CLIENT = """
// Workflow configuration
const config = {
  microscopy_path: "/data/experiment.nd2",
  output_dir: "/data/output",
  channels: {
    phase: {channel: 0, features: ["area"]},
    fluorescence: [{channel: 1, features: ["intensity_total"]}]
  },
  parameters: {batch_size: 2, n_workers: 4}
};

// Start workflow
const response = await fetch('/api/v1/processing/workflow/start', {
  method: 'POST',
  headers: {'Content-Type': 'application/json'},
  body: JSON.stringify(config)
});
const {job_id} = await response.json();

// Monitor with setInterval
const monitor = setInterval(async () => {
  const status = await fetch(`/api/v1/processing/workflow/status/${job_id}`);
  const data = await status.json();
  
  console.log(`${data.progress.percentage}% complete`);
  
  if (data.status === 'completed') {
    clearInterval(monitor);
    console.log('Job finished!');
  }
}, 2000);
"""

CURL_EXAMPLES = """
# Load file metadata
curl -X POST "http://localhost:8000/api/v1/processing/load-metadata" \\
  -H "Content-Type: application/json" \\
  -d '{"file_path": "/data/sample.nd2"}'

# List directory
curl -X POST "http://localhost:8000/api/v1/processing/list-directory" \\
  -H "Content-Type: application/json" \\
  -d '{"directory_path": "/data", "filter_extensions": [".nd2"]}'

# Get available models
curl -X GET "http://localhost:8000/api/v1/analysis/models"
"""

START_REQUEST = """
{
  "microscopy_path": "/path/to/file.nd2",
  "output_dir": "/path/to/output",
  "channels": {
    "phase": {"channel": 0, "features": ["area", "aspect_ratio"]},
    "fluorescence": [
      {"channel": 1, "features": ["intensity_total"]}
    ]
  },
  "parameters": {
    "fov_start": 0,
    "fov_end": 99,
    "batch_size": 2,
    "n_workers": 2
  }
}
"""

CHANNELS = """
{
  "phase": {
    "channel": 0,
    "features": ["area", "aspect_ratio"]
  },
  "fluorescence": [
    {
      "channel": 1,
      "features": ["intensity_total", "intensity_mean"]
    }
  ]
}
"""

PARAMETERS = """
{
  "fov_start": 0,
  "fov_end": 99,
  "batch_size": 2,
  "n_workers": 2,
  "background_weight": 1.0
}
"""

LIST_REQUEST = """
{
  "directory_path": "/path/to/directory",
  "include_hidden": false,
  "filter_extensions": [".nd2", ".czi", ".txt"]
}
"""

SEARCH_REQUEST = """
{
  "search_path": "/path/to/search",
  "pattern": "**/*.{nd2,czi}",
  "extensions": [".nd2", ".czi"],
  "max_depth": 5,
  "include_hidden": false
}
"""

FILE_REQUEST = """
{
  "file_path": "/path/to/file.nd2"
}
"""

RECENT_FILES = "/processing/recent-files?limit=10&extensions=.nd2,.czi"

MERGE_REQUEST = """
{
  "sample_yaml": "/path/to/samples.yaml",
  "input_dir": "/path/to/processed_fovs",
  "output_dir": "/path/to/output"
}
"""

TRACES_REQUEST = """
{
  "csv_path": "/path/to/traces.csv"
}
"""

FITTING_REQUEST = """
{
  "csv_path": "/path/to/traces.csv",
  "model_type": "maturation",
  "model_params": {
    "amplitude": 1.0,
    "rate": 0.1,
    "offset": 0.0
  },
  "model_bounds": {
    "amplitude": [0.0, 10.0],
    "rate": [0.01, 1.0],
    "offset": [-1.0, 5.0]
  }
}
"""
